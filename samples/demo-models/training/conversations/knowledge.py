"""What the text model knows in whole sentences: user interfaces and their tests, the web, and vlserve."""

from collections.abc import Iterator

from conversations.facts import Fact, tables

_DEFINED = {
    "a button": "A button is a control that does something when it is pressed.",
    "a link": "A link is a text or picture that leads to another page.",
    "a checkbox": "A checkbox is a control that is either checked or not.",
    "a radio button": "A radio button chooses one of several options.",
    "a dropdown": "A dropdown is a list from which one option is chosen.",
    "a text field": "A text field is a control into which text is typed.",
    "a switch": "A switch is a control that is either on or off.",
    "a dialog": "A dialog is a small window that waits for an answer.",
    "an alert": "An alert is a message that tells something important.",
    "a tab": "A tab shows one of several parts of a page.",
    "a menu": "A menu is a list of things to do.",
    "a heading": "A heading is the title of a page or of a part of it.",
    "a tooltip": "A tooltip is a short text that is shown beside the mouse.",
    "a form": "A form is a group of fields that are sent together.",
    "a placeholder": "A placeholder is a grey example text in an empty field.",
    "a screenshot": "A screenshot is a picture of what the screen shows.",
    "a regression test": "A regression test checks that what worked before still works.",
    "a smoke test": "A smoke test checks quickly that the most important things work.",
    "a flaky test": "A flaky test sometimes passes and sometimes fails without any change.",
    "a unit test": "A unit test checks one small part of a program alone.",
    "an end-to-end test": "An end-to-end test uses the whole system as a user does.",
    "an integration test": "An integration test checks that several parts work together.",
    "a load test": "A load test checks how a system works for many users at once.",
    "a test case": "A test case says what to do, with which data, and what to expect.",
    "a test plan": "A test plan says what is tested, how, when and by whom.",
    "a bug": "A bug is a mistake in a program.",
    "a bug report": "A bug report says what was done, what was expected and what happened.",
    "a selector": "A selector names the element of a page that a test means.",
    "a locator": "A locator finds an element of a page each time it is used.",
    "an assertion": "An assertion says what must be true, or the test fails.",
    "a fixture": "A fixture prepares what a test needs.",
    "a mock": "A mock stands in for a real part in a test.",
    "a page object": "A page object is a class that knows the elements of one page.",
    "a headless browser": "A headless browser runs without a window.",
    "test coverage": "Test coverage is the share of the code that the tests run.",
    "accessibility": "Accessibility means that everybody can use a page, also with a keyboard or a screen reader.",
    "exploratory testing": "Exploratory testing means to learn, plan and test at the same time.",
    "Playwright": "Playwright is a tool that drives real browsers for tests and waits for elements by itself.",
    "Selenium": "Selenium is a tool that drives browsers for tests through WebDriver.",
    "Cypress": "Cypress is a tool that tests web pages inside the browser.",
    "pytest": "pytest is a tool that finds and runs tests written in Python.",
    "WebDriver": "WebDriver is a standard by which a program drives a browser.",
    "an API": "An API is a way in which programs talk to each other.",
    "JSON": "JSON is a text format for data, with objects, lists, strings and numbers.",
    "HTML": "HTML is the language in which web pages are written.",
    "CSS": "CSS is the language that says how a web page looks.",
    "HTTP": "HTTP is how a browser asks a server for a page.",
    "a URL": "A URL is the address of something on the web.",
    "a browser": "A browser is a program that shows web pages.",
    "a server": "A server is a program that answers requests.",
    "a database": "A database keeps data and finds it again.",
    "SQL": "SQL is the language in which databases are asked.",
    "Python": "Python is a programming language that is easy to read.",
    "a GPU": "A GPU is a processor that does many sums at the same time.",
    "a language model": "A language model continues a text, token by token.",
    "a vision model": "A vision model is a model that also reads pictures.",
    "a token": "A token is a piece of text, a word or a part of one.",
    "a prompt": "A prompt is the text that a model is given.",
    "tool calling": "Tool calling means that a model names a function and its arguments, and a program runs it.",
    "vLLM": "vLLM is a fast engine that runs language models.",
    "vlserve": "vlserve is one OpenAI-style endpoint for a text model and a vision model.",
}
_DEFINED_QUESTIONS = (
    *("What is {}?", "What's {}?", "Explain {}.", "Define {}.", "What does {} mean?", "Tell me what {} is."),
    *("Explain what {} is.", "Can you explain {}?", "Do you know what {} is?", "Describe {} in one sentence."),
)
_DEFINED_ZH = {
    "按钮": "按钮是按下后会做某件事的控件。",
    "链接": "链接是通向另一个页面的文字或图片。",
    "复选框": "复选框是可以选中或不选中的控件。",
    "单选按钮": "单选按钮从几个选项中选一个。",
    "下拉框": "下拉框是可以选择一个选项的列表。",
    "输入框": "输入框是可以输入文字的控件。",
    "对话框": "对话框是等待回答的小窗口。",
    "菜单": "菜单是可以做的事情的列表。",
    "表单": "表单是一起发送的一组输入框。",
    "截图": "截图是屏幕内容的图片。",
    "回归测试": "回归测试检查以前正常的功能是否仍然正常。",
    "冒烟测试": "冒烟测试快速检查最重要的功能。",
    "不稳定的测试": "不稳定的测试在没有改动时有时通过，有时失败。",
    "单元测试": "单元测试单独检查程序的一个小部分。",
    "端到端测试": "端到端测试像用户一样使用整个系统。",
    "测试用例": "测试用例说明做什么、用什么数据、期望什么。",
    "选择器": "选择器说明测试指的是页面上的哪个元素。",
    "断言": "断言说明什么必须为真，否则测试失败。",
    "Playwright": "Playwright是为测试控制浏览器的工具。",
    "Selenium": "Selenium是通过WebDriver控制浏览器的工具。",
    "语言模型": "语言模型一个词一个词地继续一段文字。",
    "视觉模型": "视觉模型是也能看图片的模型。",
    "vLLM": "vLLM是快速运行语言模型的引擎。",
    "vlserve": "vlserve是文本模型和视觉模型的统一接口。",
    "JSON": "JSON是一种数据的文本格式。",
    "浏览器": "浏览器是显示网页的程序。",
    "数据库": "数据库保存数据并找到数据。",
}
_DEFINED_QUESTIONS_ZH = (
    *(
        "什么是{}？",
        "{}是什么？",
        "请解释{}。",
        "解释一下{}。",
        "{}是什么意思？",
        "你知道什么是{}吗？",
        "用一句话说明{}。",
    ),
)

# An answer, and every question that it answers.
SIGN_IN = "A right password, a wrong password and an empty field."
_SAID = {
    SIGN_IN: (
        "Name three things to test on a sign-in page.|Name three things to test on a login page.|"
        "What should I test on a sign-in page?|What would you test on a login page?|"
        "Give me three tests for a sign-in page.|Which three things do you test on a login form?|"
        "How do I test a sign-in page?|How to test a login page?|Three tests for a login form?"
    ),
    "A found item, no result and an empty query.": (
        "Name three things to test on a search page.|What should I test on a search page?|"
        "How do I test a search field?|Give me three tests for a search page.|"
        "Which three things do you test in a search?|Three tests for a search form?"
    ),
    "Valid data, missing data and wrong data.": (
        "Name three things to test on a form.|What should I test on a form?|How do I test a form?|"
        "Give me three tests for a form.|Which three things do you test on a form?|Three tests for a form?"
    ),
    "Adding an item, removing an item and the total price.": (
        "Name three things to test on a cart page.|What should I test on a cart page?|How do I test a shopping cart?|"
        "Give me three tests for a cart.|Which three things do you test in a cart?|Three tests for a shopping cart?"
    ),
    "A right file, a file that is too large and a file of a wrong type.": (
        "Name three things to test on an upload page.|What should I test for an upload?|How do I test a file upload?|"
        "Give me three tests for a file upload.|Which three things do you test in an upload?|"
        "Three tests for an upload?"
    ),
    "Select by role and name, because users see them too.": (
        "Which selector is best?|How should a test find a button?|What is a good selector?|How do I find an element?|"
        "Which selectors should I use?|What is the best way to select an element?"
    ),
    "Wait for what the test needs, not for a fixed time.": (
        "How do I fix a flaky test?|What helps against flaky tests?|How can I avoid flaky tests?|"
        "My test is flaky, what now?|How do I make a test stable?|What should I do with a flaky test?"
    ),
    "No, wait for an element instead, because a fixed time is too short or too long.": (
        "Should a test sleep?|Should I use sleep in tests?|Is sleep good in a test?|Can I use a fixed wait?|"
        "Are fixed waits good?|Is it good to wait a fixed time in a test?"
    ),
    "What you did, what you expected and what happened.": (
        "What belongs in a bug report?|What do I write in a bug report?|How do I write a bug report?|"
        "Name three parts of a bug report.|What should a bug report say?|What is in a good bug report?"
    ),
    'page.get_by_role("button", name="Sign in").click()': (
        "How do I click the button Sign in with Playwright?|Playwright code to click Sign in?|"
        "Write Playwright code that clicks the button Sign in.|How do I click a button in Playwright?|"
        "Show me a click in Playwright.|How does a click look in Playwright?"
    ),
    'driver.find_element(By.ID, "login").click()': (
        "How do I click a button with Selenium?|Selenium code to click a button?|How do I click in Selenium?|"
        "Write Selenium code that clicks a button.|Show me a click in Selenium.|How does a click look in Selenium?"
    ),
    "The vision engine answers everything that has a picture.": (
        "Which engine answers pictures?|Which engine answers images?|Who answers questions about pictures?|"
        "What happens to a request with a picture?|Which model sees pictures?|Where do pictures go?"
    ),
    "The text engine answers what has no picture.": (
        "Which engine answers text?|Which model answers text?|Who answers questions without a picture?|"
        "What happens to a request without a picture?|Where does plain text go?|Which engine answers a text question?"
    ),
    "With auto, pictures go to the vision engine and text goes to the text engine.": (
        "What does the model auto mean?|What is model auto?|What does auto do?|How does auto choose the engine?|"
        "What happens with model auto?|Which engine does auto take?"
    ),
    "The default port is 8000.": (
        "What is the default port?|Which port does vlserve use?|On which port does vlserve listen?|Default port?|"
        "What port is the default?|Which port is used by default?"
    ),
    "GET /ready tells whether the engines are ready.": (
        "How do I know that vlserve is ready?|Is there a ready check?|Which address tells whether it is ready?|"
        "How can I see whether the engines are ready?|How do I check that the service is ready?|What does /ready do?"
    ),
    "GET /health tells whether the gateway lives.": (
        "What does /health do?|Is there a health check?|How do I check the health of vlserve?|What is /health for?|"
        "Which address is the health check?|How do I know that the gateway lives?"
    ),
    "GET /metrics shows the metrics of the gateway and of both engines.": (
        "Where are the metrics?|How do I get metrics?|What does /metrics do?|Does vlserve have metrics?|"
        "Which address shows the metrics?|How can I see the metrics?"
    ),
    "POST /v1/chat/completions takes a chat.": (
        "Which endpoint takes a chat?|What is the chat endpoint?|Where do I send a chat?|How do I send a chat?|"
        "Which address do I ask for a chat?|What is the address for chat completions?"
    ),
    "POST /v1/analyze takes a form with pictures and a question.": (
        "Which endpoint takes a form with pictures?|What does /v1/analyze do?|How do I send a picture as a form?|"
        "What is the analyze endpoint?|Can I send a picture as a form?|Where do I send a form with a picture?"
    ),
    "vlserve serve starts it.": (
        "How do I start vlserve?|Which command starts vlserve?|How is vlserve started?|How to run vlserve?|"
        "What is the command to start vlserve?|How can I start the server?"
    ),
    "默认端口是8000。": (
        "默认端口是什么？|默认端口是多少？|vlserve用哪个端口？|vlserve的端口是什么？|端口是多少？|默认用哪个端口？"
    ),
    "视觉引擎回答有图片的问题。": (
        "哪个引擎回答图片？|图片由哪个引擎回答？|图片去哪里？|哪个模型看图片？|谁回答图片的问题？|图片问题由谁回答？"
    ),
    "文本引擎回答没有图片的问题。": (
        "哪个引擎回答文字？|文字由哪个引擎回答？|文字去哪里？|哪个模型回答文字？|谁回答文字的问题？|文字问题由谁回答？"
    ),
    "正确的密码、错误的密码和空的输入框。": (
        "登录页面要测试什么？|说出登录页面要测试的三件事。|怎么测试登录页面？|如何测试登录页面？|"
        "登录页面测试哪三件事？|给我三个登录测试。"
    ),
    "Spring, summer, autumn and winter.": (
        "What are the four seasons?|Name the four seasons.|Which seasons are there?|List the seasons.|"
        "Tell me the seasons.|What are the seasons of the year?"
    ),
    "春天、夏天、秋天和冬天。": (
        "有哪四个季节？|四季是什么？|说出四个季节。|一年有哪些季节？|四个季节叫什么？|告诉我四季。"
    ),
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.": (
        "What are the days of the week?|Name the days of the week.|Which days has a week?|List the days of the week.|"
        "Tell me the seven days.|Name the weekdays."
    ),
    "Red, yellow and blue.": (
        "What are the primary colours?|Name three colours.|Name the primary colors.|Which are the primary colours?|"
        "Tell me three colours.|List the three primary colors."
    ),
    "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.": (
        "Name the planets.|Which planets are there?|List the planets.|What are the eight planets?|Tell me the planets.|"
        "Name all planets of the solar system."
    ),
    "水星、金星、地球、火星、木星、土星、天王星和海王星。": (
        "有哪些行星？|说出八颗行星。|八颗行星是什么？|太阳系有哪些行星？|行星有哪些？|列出行星。"
    ),
    "Jupiter is the largest planet.": (
        "What is the largest planet?|Which planet is the largest?|Which is the biggest planet?|"
        "Name the largest planet.|What's the biggest planet?|Largest planet?"
    ),
    "The sun is a star.": (
        "Is the sun a star?|What is the sun?|What kind of thing is the sun?|Is the sun a planet?|"
        "Tell me what the sun is.|What's the sun?"
    ),
    "The moon goes around the Earth.": (
        "What does the moon do?|What is the moon?|What goes around the Earth?|Where is the moon?|What's the moon?|"
        "Around what does the moon go?"
    ),
    "Water boils at 100 degrees Celsius.": (
        "When does water boil?|At which temperature does water boil?|How hot is boiling water?|"
        "Boiling point of water?|What is the boiling point of water?|At how many degrees does water boil?"
    ),
    "Water freezes at 0 degrees Celsius.": (
        "When does water freeze?|At which temperature does water freeze?|How cold is ice?|Freezing point of water?|"
        "What is the freezing point of water?|At how many degrees does water freeze?"
    ),
    "水在100度沸腾。": ("水几度沸腾？|水在多少度沸腾？|水什么时候沸腾？|水的沸点是多少？|水多少度开？|水的沸点？"),
    "Python, Java and JavaScript.": (
        "Name three programming languages.|Tell me three programming languages.|List three programming languages.|"
        "Which programming languages are there?|Give me three programming languages.|Three programming languages?"
    ),
    "Chrome, Firefox and Safari.": (
        "Name three browsers.|Tell me three browsers.|List three browsers.|Which browsers are there?|"
        "Give me three browsers.|Three browsers?"
    ),
}


def _defined() -> Iterator[Fact]:
    for questions, answers, is_chinese in (
        (_DEFINED_QUESTIONS, _DEFINED, False),
        (_DEFINED_QUESTIONS_ZH, _DEFINED_ZH, True),
    ):
        for term, answer in answers.items():
            yield Fact(answer, tuple(form.format(term) for form in questions), is_chinese, "definition", term)


def _said() -> Iterator[Fact]:
    for answer, questions in _SAID.items():
        yield Fact(answer, tuple(questions.split("|")), not questions.isascii())


FACTS = (*tables(), *_defined(), *_said())
# Facts about which "And of Spain?" can be asked next.
GROUPS = {
    group: tuple(fact for fact in FACTS if fact.group == group)
    for group in ("capital", "opposite", "首都", "反义词", "colour", "status")
}
