"""The commands and their options; what they do stands in the modules named after them.

Each of those is imported when its command is run: none has to wait for what the others need.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

import click

from rtm_sansio.errors import RtmError

from .running import DEFAULT_URL, CommandFailed, one_line

_EXIT_FAILURE = 2
_EXIT_INTERRUPTED = 130
_LONGEST_LIFETIME_SECONDS = 9e15
"""With the present time added it stays below 2**53, up to which a token's end is a time that a server accepts."""


def run(arguments: list[str]) -> int:
    """Run one command; every failure is one line on stderr and status 2, whatever it was made of."""
    try:
        result = commands.main(args=arguments, prog_name="rtm", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    except click.ClickException as fault:
        return _fail(_describe_usage(fault))
    except (CommandFailed, RtmError) as fault:
        return _fail(str(fault))
    except BrokenPipeError:
        # The reader of our output has gone (`rtm listen … | head`).
        return 1
    return result if isinstance(result, int) else 0


def _fail(text: str) -> int:
    click.echo(f"rtm: {one_line(text)}", err=True)
    return _EXIT_FAILURE


def _describe_usage(fault: click.ClickException) -> str:
    text = fault.format_message().rstrip(".")
    context = getattr(fault, "ctx", None)
    path = context.command_path if context else "rtm"
    if isinstance(fault, click.NoSuchOption) and fault.option_name in ("-v", "--verbose") and context:
        return f"{text}: it stands before the command, as in rtm -v {context.info_name}"
    of_group = context is not None and isinstance(context.command, click.Group)
    if isinstance(fault, click.NoSuchOption):
        text = f"No such option {fault.option_name!r}"
        if fault.possibilities:
            text += f"; did you mean {' or '.join(fault.possibilities)}?"
        elif of_group:
            text += "; the options of a command stand behind it"
    elif context and of_group:
        text += _suggest_command(context, fault)
    return f"{text}; see {path} --help"


def _suggest_command(context: click.Context, fault: click.ClickException) -> str:
    known = list(getattr(context.command, "commands", {}))
    words = fault.format_message().split("'")
    close = difflib.get_close_matches(words[1], known, 1) if len(words) > 1 else []
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    import importlib.metadata

    try:
        click.echo(importlib.metadata.version("rtm-sansio"))
    except importlib.metadata.PackageNotFoundError:
        click.echo("run from a source tree: no version")
    context.exit()


def _parse_port(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A port to listen on; what is wrong is said of the option or of the variable, whichever it came from."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    from_environment = context.get_parameter_source("port") is click.core.ParameterSource.ENVIRONMENT
    where = "RTM_PORT" if from_environment else "--port"
    raise CommandFailed(f"{where} is {text!r}; it must be a whole number from 1 to 65535, or 0 for any free port")


def _check_lifetime(context: click.Context, parameter: click.Parameter, seconds: float) -> float:
    if not 0 < seconds <= _LONGEST_LIFETIME_SECONDS:  # NaN is not, either
        raise CommandFailed(
            f"--lifetime is {seconds:g}; it must be above 0 and at most {_LONGEST_LIFETIME_SECONDS:g} seconds"
        )
    return seconds


_STATUSES = """
\b
Exit status: 0 when all is done, 2 after an error (one line on stderr),
1 if the demo broke a promise or nobody reads the output any more, and
128 and the signal's number where one ended it (130: Ctrl-C).
A server that is ended by Ctrl-C is done.
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True, epilog=_STATUSES.strip()
)
@click.option(
    "-v", "--verbose", count=True, help="Log what happens to stderr; twice for more. Stands before the command."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def commands(context: click.Context, verbose: int) -> None:
    """Real-time messaging over WebSocket.

    \b
    Try it in three terminals, the last one once bob has joined:
      rtm serve --dev
      rtm listen --uid bob lobby
      rtm send --uid alice lobby "hello"
    or let it show itself, in ten seconds: rtm demo
    """
    # A server's warnings are for its operator; a client's commands tell themselves what matters.
    quiet = logging.WARNING if context.invoked_subcommand == "serve" else logging.CRITICAL
    levels = (quiet, logging.INFO, logging.DEBUG)
    logging.basicConfig(level=levels[min(verbose, 2)], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_key_file = click.option(
    "key_file",
    "--jwt-key",
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="RTM_JWT_KEY_FILE",
    help="File with the secret, or the key in PEM. Env: RTM_JWT_KEY_FILE, or the key itself in RTM_JWT_KEY.",
)


@commands.command()
@click.option("--host", help="Address to listen on. Default: 127.0.0.1. Env: RTM_HOST.", envvar="RTM_HOST")
@click.option(
    "--port",
    metavar="INTEGER",
    callback=_parse_port,
    envvar="RTM_PORT",
    help="Port to listen on, 0 for any free one. Default: 8765. Env: RTM_PORT.",
)
@click.option("--dev", is_flag=True, default=None, help="Accept everybody without a token, on loopback only.")
@_key_file
@click.option(
    "algorithms",
    "--jwt-algorithm",
    multiple=True,
    envvar="RTM_JWT_ALGORITHM",
    help="Algorithm of the tokens; may be repeated. Default: what fits the key. Env: RTM_JWT_ALGORITHM.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    envvar="RTM_TLS_CERT",
    help="Certificate chain in PEM. Env: RTM_TLS_CERT.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    envvar="RTM_TLS_KEY",
    help="Its private key, if that is another file. Env: RTM_TLS_KEY.",
)
@click.option(
    "config_file",
    "--config",
    type=click.Path(path_type=Path),
    envvar="RTM_CONFIG",
    help="TOML file with these options and every setting of the server. Env: RTM_CONFIG.",
)
def serve(**options: Any) -> int:
    """Run a server until Ctrl-C.

    Every setting of the server can stand in the TOML file under its name, or in the environment in capitals
    behind RTM_, as RTM_PRESENCE_GRACE_SECONDS. An option beats the environment, and that beats the file.
    """
    from . import serve as serve_command

    return serve_command.serve(serve_command.Options(**options))


@commands.command()
@_key_file
@click.option("--uid", required=True, help="Whom the token is for.")
@click.option(
    "lifetime_seconds",
    "--lifetime",
    type=float,
    callback=_check_lifetime,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long it is valid.",
)
@click.option("algorithm", "--jwt-algorithm", help="Default: what fits the key.")
@click.option("key_id", "--kid", help="Key id to put into the header, for a server with several keys.")
def token(key_file: Path | None, **options: Any) -> int:
    """Print a token.

    The server needs the same secret, or the public half of the key.
    """
    from . import token as token_command

    return token_command.print_token(key_file, **options)


_url = click.option("--url", default=DEFAULT_URL, show_default=True, envvar="RTM_URL", help="The server. Env: RTM_URL.")
_uid = click.option("--uid", required=True, envvar="RTM_UID", help="Whom to log in as. Env: RTM_UID.")
_token = click.option("--token", envvar="RTM_TOKEN", help="The token, if the server wants one. Env: RTM_TOKEN.")
_ca = click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="RTM_CA",
    help="Trust the certificates of this CA (PEM) and no others, for wss://. Env: RTM_CA.",
)


@commands.command()
@_url
@_uid
@_token
@_ca
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
def listen(url: str, uid: str, token: str | None, ca: Path | None, channels: tuple[str, ...]) -> int:
    """Join channels and print what happens there, until Ctrl-C."""
    from . import talk

    return talk.listen(url, uid, token, channels, ca_file=ca)


@commands.command()
@_url
@_uid
@_token
@_ca
@click.argument("channel")
@click.argument("message", required=False)
def send(url: str, uid: str, token: str | None, ca: Path | None, channel: str, message: str | None) -> int:
    """Join CHANNEL, send MESSAGE, print its receipt, log out.

    Without a MESSAGE, or with "-", each line of the standard input is a message; empty lines are passed over.
    """
    from . import talk

    return talk.send(url, uid, token, channel, message, ca_file=ca)


@commands.command()
@click.option("--real-time", is_flag=True, help="Use the true times: this takes about 75 seconds.")
@click.option(
    "--scale",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="How many times faster than the true times it runs.",
)
@click.option("--seed", type=int, help="For the moments of the outages. Default: a random one.")
@click.pass_context
def demo(context: click.Context, real_time: bool, scale: int, seed: int | None) -> int:
    """Show what the library promises.

    Two users chat over a link that fails again and again; what both saw is compared with the rules. The exit status is
    1 if a promise was broken.
    """
    if real_time and context.get_parameter_source("scale") is not click.core.ParameterSource.DEFAULT:
        raise CommandFailed("--real-time runs at the true times, so --scale makes no sense; leave out one of them")
    from . import demo as demo_command

    return demo_command.run_demo(scale=1 if real_time else scale, seed=seed)
