"""Sizes in bytes as text."""


def format_bytes(size: int | float) -> str:
    """Return a size in bytes with a decimal unit, such as ``1.50 GB``."""
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
