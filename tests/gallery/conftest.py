"""A dataset with what may go wrong in a page, a gallery that serves it, and a real browser."""

from galleries import address, ask, chromium, page, photos

__all__ = ["address", "ask", "chromium", "page", "photos"]
