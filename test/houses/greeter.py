"""A gRPC server of others, for the gateway's tests: says its port, then answers until its input ends."""
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

files = descriptor_pb2.FileDescriptorSet.FromString(open(sys.argv[1], "rb").read())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)
factory = message_factory.MessageFactory(pool)
Hello = factory.GetPrototype(pool.FindMessageTypeByName("greet.Hello"))
Said = factory.GetPrototype(pool.FindMessageTypeByName("greet.Said"))


def left_of(context):
    left = context.time_remaining()
    return -1 if left is None or left > 1e6 else left


def say(hello, context):
    if hello.name.startswith("code "):
        code = next(c for c in grpc.StatusCode if c.value[0] == int(hello.name[5:]))
        context.abort(code, "of the inside: é")
    return Said(text=f"hello {hello.name}", number=hello.number, left=left_of(context), raw=b"\xff\x00")


def count(hello, context):
    for n in range(hello.number):
        if hello.name == "abort" and n == 2:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
        yield Said(text=f"{hello.name} {n}", left=left_of(context))


def handler(kind, call):
    return kind(call, request_deserializer=Hello.FromString, response_serializer=Said.SerializeToString)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
methods = {
    "Say": handler(grpc.unary_unary_rpc_method_handler, say),
    "Count": handler(grpc.unary_stream_rpc_method_handler, count),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("greet.Greeter", methods),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
