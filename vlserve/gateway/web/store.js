// Storage of conversations and pictures in the browser. Without storage the page works, but does not remember them.

const database = new Promise((resolve) => {
  try {
    const request = indexedDB.open("vlserve", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("chats", { keyPath: "id" });
      request.result.createObjectStore("pictures", { keyPath: "id" }).createIndex("chat", "chat");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  } catch {
    resolve(null);
  }
});

// Runs `work(chats, pictures)` in one transaction. Resolves to the result of the request that it returns.
async function transact(mode, work) {
  const opened = await database;
  if (!opened) return undefined;
  return new Promise((resolve, reject) => {
    const transaction = opened.transaction(["chats", "pictures"], mode);
    const request = work(transaction.objectStore("chats"), transaction.objectStore("pictures"));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

async function loadChats() {
  const chats = (await transact("readonly", (chats) => chats.getAll())) ?? [];
  return chats.sort((one, other) => other.updated - one.updated);
}

const loadChat = (id) => transact("readonly", (chats) => chats.get(id));

const saveChat = (chat) => transact("readwrite", (chats) => chats.put(chat));

async function loadPictures(chatId) {
  return (await transact("readonly", (_, pictures) => pictures.index("chat").getAll(chatId))) ?? [];
}

const savePictures = (chatId, kept) =>
  transact("readwrite", (_, pictures) => {
    for (const { id, blob } of kept) pictures.put({ id, blob, chat: chatId });
  });

const deleteChat = (id) =>
  transact("readwrite", (chats, pictures) => {
    chats.delete(id);
    pictures.index("chat").getAllKeys(id).onsuccess = (event) => {
      for (const key of event.target.result) pictures.delete(key);
    };
  });

// Pictures of the open conversation and pictures to send, by id.
const blobs = new Map();

// Small settings. Browsers may deny access to the storage.
function remembered(name) {
  try {
    return sessionStorage.getItem(name) ?? localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value, { forSession = false } = {}) {
  try {
    sessionStorage.removeItem(name);
    localStorage.removeItem(name);
    if (value) (forSession ? sessionStorage : localStorage).setItem(name, value);
  } catch {
    // Not stored.
  }
}

