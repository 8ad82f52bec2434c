"""What a notebook imports to reach its platform. Importing it loads nothing heavy."""
