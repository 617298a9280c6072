// A Pub/Sub server for tests: Google's own in-memory one, and before it an end of TLS, which it has not.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
)

func main() {
	port := flag.Int("port", 0, "port of the loopback interface, in plain text")
	tlsPort := flag.Int("tls-port", 0, "the same with TLS")
	cert := flag.String("cert", "", "PEM file of the certificate")
	key := flag.String("key", "", "PEM file of its key")
	refuse := flag.String("refuse", "", "calls that fail, as Publish=7,CreateTopic=16 (codes of gRPC)")
	flag.Parse()

	options, err := refusals(*refuse)
	if err != nil {
		log.Fatal(err)
	}
	plain := fmt.Sprintf("127.0.0.1:%d", *port)
	pstest.NewServerWithAddress(plain, options...)
	if *tlsPort == 0 {
		select {}
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *tlsPort), &tls.Config{
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go forward(client, plain)
	}
}

// refusals makes the calls that text names fail with its codes.
func refusals(text string) ([]pstest.ServerReactorOption, error) {
	var options []pstest.ServerReactorOption
	for _, pair := range strings.FieldsFunc(text, func(letter rune) bool { return letter == ',' }) {
		call, number, _ := strings.Cut(pair, "=")
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(number)); err != nil {
			return nil, fmt.Errorf("%s: %w", pair, err)
		}
		options = append(options, pstest.WithErrorInjection(call, code, "refused by the test"))
	}
	return options, nil
}

// forward copies both ways until one side ends.
func forward(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		log.Print(err)
		return
	}
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	io.Copy(client, server)
}
