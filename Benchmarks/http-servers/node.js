require("http").createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "Content-Length": 14 });
    response.end("Hello, world!\n");
}).listen(Number(process.argv[2]), "127.0.0.1");
