"""A folder for browsers: models, the JavaScript module of `export/web`, onnxruntime-web, a page."""
