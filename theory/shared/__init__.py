"""What all three packages use: files, validation, the store, findings, one look for figures."""
