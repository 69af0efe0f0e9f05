"""Values of settings in files, such as a mounted secret.

The settings and the stack share this reader. It has no side effect: ``myctobot.env`` reads the environment when it is
imported, so only the settings may import that module.
"""

from __future__ import annotations

from pathlib import Path

MAX_CHARACTERS = 64 * 1024


def read_value_file(name: str, path: Path) -> str:
    """Return the value in the file that a variable such as ``SECRET_KEY_FILE`` names, without blanks around it.

    Raises:
        ValueError: the file cannot be read or is too large for a value; the sentence names the variable.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: {path} is no readable text file ({error}). Give its path.") from error
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{name}: {path} has more than {MAX_CHARACTERS} characters; it must hold one value.")
    return text.strip()
