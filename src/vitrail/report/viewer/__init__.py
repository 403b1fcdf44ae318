"""The interactive viewer: ES modules, style and shell, and what puts them into one page."""
