"""One module per revision of the schema, each building on the one before."""
