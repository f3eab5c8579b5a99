"""One TOML file and rule files -> frozen values, or one clear error."""
