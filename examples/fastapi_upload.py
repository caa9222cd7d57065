"""Upscale uploads in a FastAPI application: `uvicorn --app-dir examples fastapi_upload:app`.

curl -F image=@photo.jpg http://127.0.0.1:8000/upscale -o large.png

`pip install "srsdk[cpu,http]"`. `srsdk serve` is a complete server.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response, UploadFile

import srsdk

# what strangers may send, for all requests together
BUDGET = srsdk.Budget(pixels=20_000_000, seconds=30, pages=1, formats=("PNG", "JPEG", "WEBP"))
PNG = srsdk.PictureOptions(format="png")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, srsdk.BaseUpscaler]]:
    """Open the model once; all requests share it."""
    with srsdk.Upscaler("gan_x4", optimize="throughput", budget=BUDGET) as up:
        yield {"up": up}


app = FastAPI(lifespan=lifespan)


@app.post("/upscale")
async def upscale(request: Request, image: UploadFile) -> Response:
    """Answer with a PNG; a client that disconnects cancels the computation."""
    up: srsdk.BaseUpscaler = request.state.up
    large = io.BytesIO()
    try:
        await up.aupscale_file(image.file, large, options=PNG)
    except srsdk.DeadlineExceeded as error:
        raise HTTPException(504, str(error)) from error
    except srsdk.PictureError as error:
        raise HTTPException(422, str(error)) from error
    return Response(large.getvalue(), media_type="image/png")
