"""The stages that an image goes through, as functions from table to table."""
