"""How any request is read and its response written."""
