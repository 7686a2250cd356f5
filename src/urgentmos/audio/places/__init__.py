"""Places of recordings: local files, URLs, members of archives, cells of Parquet files."""
