"""CSV and Parquet to rows of text, in a stream: reading, validation, exact de-duplication, the exclusion list."""
