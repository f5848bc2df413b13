// Nothing: keeps a folder's library linkable while it has no source of its own.
