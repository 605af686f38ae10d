"""What a page shows: its texts, and its elements with their attributes."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page that was read: ``texts`` and ``elements``, in their order."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.elements = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)
