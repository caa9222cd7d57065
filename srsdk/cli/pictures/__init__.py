"""`srsdk upscale` and `srsdk compare`: files, folders, pipes, and folders on a cluster."""
