"""`cvbatch report`: one folder with a page that shows what is in a run."""
