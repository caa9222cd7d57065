"""FP16: conversion, the simulation of a GPU, and the search for exceptions."""
