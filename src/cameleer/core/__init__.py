"""What every other package stands on: types, errors, configs, artifacts, rendering. Imports no torch."""
