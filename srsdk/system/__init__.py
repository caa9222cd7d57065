"""What differs between systems and machines: paths, memory, processors, threads, durable files.

Uses: errors.
"""
