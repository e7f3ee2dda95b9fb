/* A mock inference engine for benchmarks of gateways: answers any request at once, so that what is measured is the gateway.
 *
 * usage: mock_engine (tcp PORT | unix PATH)...
 *
 * GET anything -> the list of models; POST with "stream": true near its end or beginning -> 64 server-sent events, each
 * written on its own, then [DONE]; any other POST -> one chat completion. Bodies are read and thrown away. One process,
 * epoll, HTTP/1.1 with keep-alive, Content-Length and chunked bodies.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, PIECE = 1 << 18, CHUNKS = 64, WINDOW = 2048 };

struct conn {
    int fd, is_listener, head_size, is_post, is_chunked, is_stream, in_body, chunk_state;
    long left;                  /* of the body, or of the current chunk */
    char head[HEAD_BYTES];
    char tail[WINDOW];          /* the last bytes of the body: where clients put "stream": true */
    int tail_size;
    char start[WINDOW];         /* and the first ones */
    int start_size;
};

static char models[512], answer[1024], events[CHUNKS + 3][512];
static int models_size, answer_size, event_sizes[CHUNKS + 3];
static char piece[PIECE];

static void prepare(void) {
    const char *list = "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1,\"owned_by\":\"mock\",\"max_model_len\":32768}]}";
    models_size = sprintf(models, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(list), list);
    const char *whole = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"Hello! How can I help you today?\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,\"total_tokens\":29}}";
    answer_size = sprintf(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(whole), whole);
    event_sizes[0] = sprintf(events[0], "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    for (int i = 1; i <= CHUNKS + 1; i++) {
        char data[400];
        int size = i <= CHUNKS
            ? sprintf(data, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":"
                            "[{\"index\":0,\"delta\":{\"content\":\" word%02d\"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n", i, i == CHUNKS ? "\"stop\"" : "null")
            : sprintf(data, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[],"
                            "\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":64,\"total_tokens\":84}}\n\n");
        event_sizes[i] = sprintf(events[i], "%x\r\n%s\r\n", size, data);
    }
    event_sizes[CHUNKS + 2] = sprintf(events[CHUNKS + 2], "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

/* Blocking for a moment is fine: answers are small. */
static int send_all(int fd, const char *data, int size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { usleep(50); continue; }
        if (n <= 0) return -1;
        data += n; size -= n;
    }
    return 0;
}

static int respond(struct conn *c) {
    if (!c->is_post) return send_all(c->fd, models, models_size);
    if (!c->is_stream) return send_all(c->fd, answer, answer_size);
    for (int i = 0; i < CHUNKS + 3; i++)
        if (send_all(c->fd, events[i], event_sizes[i])) return -1;
    return 0;
}

static void keep_window(struct conn *c, const char *data, int size) {
    if (c->start_size < WINDOW) {
        int n = size < WINDOW - c->start_size ? size : WINDOW - c->start_size;
        memcpy(c->start + c->start_size, data, n); c->start_size += n;
    }
    if (size >= WINDOW) { memcpy(c->tail, data + size - WINDOW, WINDOW); c->tail_size = WINDOW; return; }
    int kept = c->tail_size + size > WINDOW ? WINDOW - size : c->tail_size;
    memmove(c->tail, c->tail + c->tail_size - kept, kept);
    memcpy(c->tail + kept, data, size); c->tail_size = kept + size;
}

static int finish(struct conn *c) {
    static const char *spellings[] = {"\"stream\":true", "\"stream\": true"};
    for (int i = 0; i < 2; i++)
        if (memmem(c->start, c->start_size, spellings[i], strlen(spellings[i])) || memmem(c->tail, c->tail_size, spellings[i], strlen(spellings[i])))
            c->is_stream = 1;
    int failed = respond(c);
    c->head_size = c->is_post = c->is_chunked = c->is_stream = c->in_body = c->chunk_state = c->tail_size = c->start_size = 0;
    c->left = 0;
    return failed;
}

static int feed(struct conn *c, char *data, int size);

/* chunk_state: 0 reads a size line, 1 reads data, 2 reads the CRLF after data, 3 reads the CRLF after the last chunk. */
static int feed_chunked(struct conn *c, char *data, int size) {
    int i = 0;
    while (i < size) {
        if (c->chunk_state == 1) {
            int n = size - i < c->left ? size - i : (int)c->left;
            keep_window(c, data + i, n); c->left -= n; i += n;
            if (!c->left) { c->chunk_state = 2; c->head_size = 0; }
        } else if (c->chunk_state == 0) {
            char ch = data[i++];
            if (c->head_size < HEAD_BYTES - 1) c->head[c->head_size++] = ch;
            if (ch == '\n') {
                c->head[c->head_size] = 0; c->left = strtol(c->head, NULL, 16); c->head_size = 0;
                c->chunk_state = c->left ? 1 : 3;
            }
        } else {
            if (data[i++] == '\n') {
                if (c->chunk_state == 3) { if (finish(c)) return -1; return i < size ? feed(c, data + i, size - i) : 0; }
                c->chunk_state = 0;
            }
        }
    }
    return 0;
}

static int feed(struct conn *c, char *data, int size) {
    if (c->in_body && c->is_chunked) return feed_chunked(c, data, size);
    if (c->in_body) {
        int n = size < c->left ? size : (int)c->left;
        keep_window(c, data, n); c->left -= n;
        if (c->left) return 0;
        if (finish(c)) return -1;
        return n < size ? feed(c, data + n, size - n) : 0;
    }
    int room = HEAD_BYTES - 1 - c->head_size, n = size < room ? size : room;
    int before = c->head_size;
    memcpy(c->head + before, data, n); c->head[before + n] = 0; c->head_size += n;
    char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    if (!end) return room > size ? 0 : -1;
    int used = (int)(end + 4 - c->head) - before;
    end[2] = 0;
    c->is_post = !strncmp(c->head, "POST", 4);
    char *length = strcasestr(c->head, "\ncontent-length:");
    c->is_chunked = strcasestr(c->head, "\ntransfer-encoding: chunked") != NULL;
    if (strcasestr(c->head, "\nexpect: 100-continue") && send_all(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return -1;
    c->left = length ? atol(length + 16) : 0;
    c->head_size = 0;
    if (!c->is_chunked && !c->left) { if (finish(c)) return -1; }
    else c->in_body = 1;
    return used < size ? feed(c, data + used, size - used) : 0;
}

static int listen_at(const char *kind, const char *where) {
    int fd, one = 1;
    if (!strcmp(kind, "tcp")) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(where)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (void *)&a, sizeof a)) { perror("bind"); exit(1); }
    } else {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        strncpy(a.sun_path, where, sizeof a.sun_path - 1); unlink(where);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (bind(fd, (void *)&a, sizeof a)) { perror("bind"); exit(1); }
    }
    if (listen(fd, 1024)) { perror("listen"); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    prepare();
    signal(SIGPIPE, SIG_IGN);
    int poll = epoll_create1(0);
    for (int i = 1; i + 1 < argc; i += 2) {
        struct conn *c = calloc(1, sizeof *c);
        c->fd = listen_at(argv[i], argv[i + 1]); c->is_listener = 1;
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    }
    struct epoll_event ready[256];
    for (;;) {
        int n = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (c->is_listener) {
                int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK), one = 1;
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                struct conn *new = calloc(1, sizeof *new);
                new->fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = new});
                continue;
            }
            ssize_t size = recv(c->fd, piece, PIECE, 0);
            if (size < 0 && errno == EAGAIN) continue;
            if (size <= 0 || feed(c, piece, (int)size)) { close(c->fd); free(c); }
        }
    }
}
