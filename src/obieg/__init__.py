"""obieg: regional exchange of electronic medical documentation."""
