"""What every floor stands on: errors, the registry, strict configuration."""
