"""Pictures from files, folders, parquet and the Hub."""
