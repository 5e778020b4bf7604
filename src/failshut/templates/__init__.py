"""Ready configs: a template is a folder of `ready/` with its questions (`template.toml`) and the files it makes. No code."""
