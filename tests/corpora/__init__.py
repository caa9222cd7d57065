"""Run other people's files through srsdk in a child with limits; not collected by pytest."""
