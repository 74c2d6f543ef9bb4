"""Tenterhook inside your own program: the whole pipeline without a server. See docs/library.md."""
