"""Pages as the planner sees them, made without a browser."""

from vlserve.testgen.elements import Element, Locator, Look
from vlserve.testgen.scenario.clauses import Clause, split


def el(id_: str, role: str, name: str, *states: str, around: str = "", **more: object) -> Element:
    return Element(
        id_,
        role,
        name,
        (0, 0, 9, 9),
        (Locator("text", name or role),),
        is_verified=True,
        states=frozenset(states),
        around=(around,) if around else (),
        context=around,
        **more,  # type: ignore[arg-type]
    )


def look(*elements: Element, url: str = "http://127.0.0.1/orders", title: str = "Orders") -> Look:
    return Look(tuple(elements), url, title)


PEOPLE = ("Dana Reyes", "Ben Hall", "Mei Tanaka")
ROWS = [
    one
    for number, name in enumerate(PEOPLE)
    for one in (
        el(f"e1{number}", "cell", name, around=f'row "{name} Edit Delete"'),
        el(f"e2{number}", "button", "Edit", around=f'row "{name} Edit Delete"'),
        el(f"e3{number}", "button", "Delete", around=f'row "{name} Edit Delete"'),
        el(f"e4{number}", "checkbox", "Select", around=f'row "{name} Edit Delete"'),
    )
]
TABLE = look(
    el("e1", "searchbox", "Search customers"),
    el("e2", "button", "Name"),
    el("e3", "button", "City"),
    el("e4", "combobox", "Sort by", options=("Newest", "Oldest")),
    *ROWS,
    el("g1", "row", "Customers", items=tuple(f"{name} Edit Delete" for name in PEOPLE)),
)
LOGIN = look(
    el("e1", "heading", "Welcome"),
    el("e2", "textbox", "Email"),
    el("e3", "textbox", "Password", is_secret=True),
    el("e4", "checkbox", "Remember me"),
    el("e5", "button", "Sign in"),
    el("e6", "link", "Help"),
    el("e7", "button", "Continue", "disabled"),
    el("e8", "link", "Create an account"),
)
TODO = look(
    el("e1", "textbox", "What needs to be done?"),
    el("e2", "button", "Add"),
    el("e3", "checkbox", "Buy milk"),
    el("e4", "checkbox", "Call Ben", "checked"),
    el("e5", "button", "All", "pressed"),
    el("e6", "button", "Done", "not_pressed"),
    el("e7", "button", "Clear completed"),
    el("e8", "listitem", "Write report"),
    el("e9", "listitem", "Ask Ann"),
    el("g1", "listitem", "", items=("Buy milk", "Call Ben", "Write report", "Ask Ann")),
)
SETTINGS = look(
    el("e1", "tab", "Profile", "selected"),
    el("e2", "tab", "Billing", "not_selected"),
    el("e3", "combobox", "Plan", options=("Free", "Basic", "Pro")),
    el("e4", "radio", "Dark"),
    el("e5", "radio", "Light", "checked"),
    el("e6", "switch", "Sound"),
    el("e7", "button", "Save"),
    el("e8", "button", "Advanced", "collapsed"),
    el("e9", "spinbutton", "Guests"),
    el("e10", "button", "Delete account"),
    el("e11", "dialog", "Cookies"),
    el("e12", "button", "Close", around='dialog "Cookies"'),
    el("e13", "textbox", "Full name"),
    el("e14", "textbox", "Promo code"),
    el("e15", "button", "Apply"),
)
TWINS = look(
    el("e1", "textbox", "Street", around='group "Shipping"'),
    el("e2", "textbox", "City", around='group "Shipping"'),
    el("e3", "button", "Save", around='group "Shipping"'),
    el("e4", "textbox", "Street", around='group "Billing"'),
    el("e5", "textbox", "City", around='group "Billing"'),
    el("e6", "button", "Save", around='group "Billing"'),
)
CONTACT = look(
    el("e1", "textbox", "Full name"),
    el("e2", "textbox", "Email"),
    el("e3", "textbox", "Message"),
    el("e4", "button", "Send message"),
)
CHORES = look(el("e1", "textbox", "New chore"), el("e2", "button", "Add chore"))
TWO_LISTS = look(
    el("e1", "textbox", "New chore"),
    el("e2", "button", "Add chore"),
    el("e3", "textbox", "New person"),
    el("e4", "button", "Add person"),
)
CHINESE = look(
    el("e1", "textbox", "用户名"),
    el("e2", "textbox", "密码", is_secret=True),
    el("e3", "checkbox", "记住我"),
    el("e4", "button", "登录"),
    el("e5", "link", "创建账户"),
    el("e6", "combobox", "城市", options=("北京", "上海")),
)
SHOP = look(
    el("e1", "button", "Cart (2)"),
    el("e2", "link", "Go to the checkout…"),
    el("e3", "button", "Account menu", "collapsed"),
    el("e4", "button", "Cancel subscription"),
    el("e5", "button", "Close account"),
    el("e6", "button", "Save changes"),
    el("e7", "link", "删除账户"),
)


def clause(text: str) -> Clause:
    found = split(text)
    assert len(found) == 1, found
    return found[0]
