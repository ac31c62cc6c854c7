"""Names of concepts, of their members and of shapes."""

SHAPES = ("circle", "square", "triangle", "hexagon", "star", "cross")

_MEMBERS = {
    "bird": (
        "robin wren heron finch crow owl swan stork gull hawk crane dove eagle goose lark raven "
        "swift thrush"
    ),
    "fish": (
        "trout salmon perch pike cod eel tuna carp bass sole haddock herring halibut mackerel "
        "sardine anchovy mullet turbot"
    ),
    "tree": (
        "oak elm birch maple cedar willow beech pine ash larch spruce poplar alder hazel linden "
        "yew walnut cypress"
    ),
    "tool": (
        "hammer saw chisel drill plane wrench pliers file axe spade clamp rasp shovel hoe rake "
        "level vice mallet"
    ),
    "fruit": (
        "apple pear plum cherry grape fig mango lemon lime peach melon quince banana kiwi papaya "
        "guava lychee apricot"
    ),
    "metal": (
        "iron copper zinc tin lead silver gold nickel cobalt chrome titanium platinum mercury "
        "tungsten lithium sodium calcium radium"
    ),
}
CONCEPTS = {concept: tuple(names.split()) for concept, names in _MEMBERS.items()}
