"""Run many calls at once: deadlines, cancellation, futures, batches, asyncio.

Uses: budget, errors, system.
"""
