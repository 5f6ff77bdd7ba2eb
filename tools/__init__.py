"""Commands for working on memsidecar; none of them ships."""
