"""`fewshot studio`: a page on this machine to teach a classifier and to try it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kinshot.cli.common import say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET
from kinshot.core.errors import ConfigError


@click.command(name="studio")
@click.argument("model", metavar="MODEL.kin", type=click.Path(path_type=Path))
@click.option(
    "--encoder",
    default="",
    metavar="RUN|timm:...|NAME",
    help="A run, or a backbone [default: the file's own, or efficientnet_lite0 for a new one].",
)
@click.option("--port", default=8765, show_default=True, help="Where the page is on this machine; 0 takes any free port.")
@click.option("--open", "open_browser", is_flag=True, help="Show the page in the browser at once.")
@click.option("--embed-encoder", is_flag=True, help="Carry the encoder's weights in the file.")
@click.option("--thumbnails", default=128, show_default=True, metavar="SIDE", help="Side of the small pictures that a new file keeps.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def studio_command(
    model: Path, encoder: str, port: int, open_browser: bool, embed_encoder: bool, thumbnails: int, allow_unfinished: bool, device: str,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Teach the classifier MODEL.kin, made where it is not there, and try it, on a page in the browser.

    The page is served on this machine alone, to whoever has the link that is printed, until Ctrl-C. It needs no internet. Other commands
    may teach the same file meanwhile.
    """
    from kinshot.runs.reached import refuse_unfinished

    try:
        from kinshot.studio.serve import bound, serving
        from kinshot.studio.state import Studio
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] not in ("starlette", "uvicorn", "python_multipart"):
            raise
        raise ConfigError(f"fewshot studio needs the package {problem.name}: pip install 'kinshot[studio]'") from problem

    refuse_unfinished([Path(encoder)] if encoder else [], allow_unfinished)
    bound(port).close()  # before the encoder is loaded
    studio = Studio(model, encoder=encoder, thumbnails=thumbnails, embed_encoder=embed_encoder, device=device)
    with serving(studio, port) as served:
        show({"model": str(model), "url": served.url}, as_json, lambda: f"{model}: {served.url}")
        sys.stdout.flush()
        if not quiet:
            say("open this link in a browser on this machine; it works until Ctrl-C, and for whoever has it")
        if open_browser and not served.open_browser() and not quiet:
            say("no browser was found here: open the link yourself")
        served.wait()


COMMANDS = (studio_command,)
