"""A name -> clips -> rows: manifests, folders, archives, tables, pairs, journals."""
