package main

import (
	"net/http"
	"os"
)

func main() {
	body := []byte("Hello, world!\n")
	handler := func(response http.ResponseWriter, request *http.Request) {
		response.Header().Set("Content-Type", "text/plain; charset=utf-8")
		response.Write(body)
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handler)))
}
