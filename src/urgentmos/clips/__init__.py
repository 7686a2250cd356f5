"""From a name to clips and rows: manifests, folders, archives, tables, pairs, journals."""
