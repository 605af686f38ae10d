"""One Report object, and its renderers: nothing here asks the network anything."""
