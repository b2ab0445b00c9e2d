// The key-value store: what clients get, and what strangers get.
#include "comm/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/store_protocol.h"
#include "errors.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using store_protocol::Operation;
using store_protocol::Status;
using store_protocol::Writer;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Store, KeepsValues) {
  const StoreServer server(0, "run");
  StoreClient client("127.0.0.1", server.port(), "run", 5s);
  EXPECT_EQ(client.try_get("a"), std::nullopt);
  client.set("a", std::string("with\0zero", 9));
  EXPECT_EQ(client.try_get("a"), std::string("with\0zero", 9));
  EXPECT_EQ(client.get("a", 0ms), std::string("with\0zero", 9));
  client.set("a", "");
  EXPECT_EQ(client.get("a", 5s), "");
  client.set("ab", "x");
  client.set("b", "y");
  EXPECT_THAT(client.keys("a"), ElementsAre("a", "ab"));
  EXPECT_THAT(client.keys(""), ElementsAre("a", "ab", "b"));
  client.remove("a");
  client.remove("a");
  EXPECT_THAT(client.keys("a"), ElementsAre("ab"));
  const std::string large(10 << 20, 'l');
  client.set("large", large);
  EXPECT_EQ(client.get("large", 5s), large);
}

TEST(Store, CountsAndComparesInOneStep) {
  const StoreServer server(0, "run");
  constexpr int kClients = 20, kRounds = 50;
  std::atomic<int> first = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i)
    threads.emplace_back([&] {
      StoreClient client("localhost", server.port(), "run", 10s);
      if (client.compare_and_set("first", std::nullopt, "taken")) ++first;
      for (int round = 0; round < kRounds; ++round) client.add("counter", 1);
      client.add("counter", -1);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, 1);
  StoreClient client("localhost", server.port(), "run", 5s);
  EXPECT_EQ(client.add("counter", 0), kClients * (kRounds - 1));
  EXPECT_FALSE(client.compare_and_set("first", "free", "mine"));
  EXPECT_TRUE(client.compare_and_set("first", "taken", "mine"));
  EXPECT_EQ(client.get("first", 0ms), "mine");
  EXPECT_FALSE(client.compare_and_set("absent", "", "x"));
  EXPECT_THAT(message_of([&] { client.add("first", 1); }),
              AllOf(HasSubstr("add 'first'"), HasSubstr("'mine', is no number")));
  client.set("most", "9223372036854775807");
  EXPECT_THAT(message_of([&] { client.add("most", 1); }), HasSubstr("64 bits"));
  EXPECT_EQ(client.add("most", -1), 9223372036854775806);
}

TEST(Store, GetWaits) {
  const StoreServer server(0, "run");
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 10; ++i)
    threads.emplace_back([&, i] {
      StoreClient client("localhost", server.port(), "run", 5s);
      client.add("waiting", 1);
      if (client.get("key" + std::to_string(i % 2), 20s) == "value" + std::to_string(i % 2)) ++right;
    });
  StoreClient client("localhost", server.port(), "run", 5s);
  while (client.add("waiting", 0) < 10) std::this_thread::sleep_for(1ms);
  EXPECT_THAT(message_of([&] { client.get("key0", 50ms); }),
              AllOf(HasSubstr("get 'key0'"), HasSubstr(client.server()), HasSubstr("0.05 s")));
  client.set("key0", "value0");
  client.set("key1", "value1");
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 10);
}

TEST(Store, AnswersOnEveryKindOfAddress) {
  const StoreServer server(0, "run");
  for (const char* host : {"127.0.0.1", "localhost", "127.0.0.2"}) {
    StoreClient client(host, server.port(), "run", 5s);
    client.add("count", 1);
    EXPECT_THAT(client.own_address(), AllOf(Not(HasSubstr("[")), Not(HasSubstr("ffff")))) << host;
  }
  const Socket v6(socket(AF_INET6, SOCK_STREAM, 0));
  if (!v6) GTEST_SKIP() << "this machine has no IPv6";
  StoreClient client("::1", server.port(), "run", 5s);
  EXPECT_EQ(client.add("count", 1), 4);
  EXPECT_EQ(client.server(), "[::1]:" + std::to_string(server.port()));
  EXPECT_EQ(client.own_address(), "::1");
}

TEST(Socket, AFreePortIsNoneOfThoseForConnections) {
  int first = 0, last = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first >> last;
  std::set<uint16_t> ports;
  for (int i = 0; i < 20; ++i) {
    const uint16_t port = free_port();
    ports.insert(port);
    EXPECT_TRUE(first < 11000 || port < first || port > last) << port;
    EXPECT_EQ(port_of(listen_on(port).get()), port);
  }
  EXPECT_GT(ports.size(), 15u);  // two that ask at the same time
}

TEST(Store, TheClientMayBeFirst) {
  const uint16_t port = free_port();
  std::thread late_server;
  std::atomic<bool> done = false;
  late_server = std::thread([&] {
    std::this_thread::sleep_for(200ms);
    const StoreServer server(port, "run");
    while (!done) std::this_thread::sleep_for(1ms);
  });
  StoreClient client("localhost", port, "run", 20s);
  EXPECT_EQ(client.add("x", 1), 1);
  done = true;
  late_server.join();
}

TEST(Store, AnotherRunIsRefused) {
  const StoreServer server(0, "secret");
  const std::string message = message_of([&] { StoreClient("localhost", server.port(), "another", 5s); });
  EXPECT_THAT(message, AllOf(HasSubstr("refused"), HasSubstr("another run"), HasSubstr("'another'"),
                             HasSubstr("localhost:" + std::to_string(server.port()))));
  EXPECT_THAT(message, Not(HasSubstr("secret")));
}

TEST(Store, ATakenPortIsAnError) {
  const StoreServer server(0, "run");
  EXPECT_THAT(message_of([&] { StoreServer(server.port(), "run"); }),
              AllOf(HasSubstr("port " + std::to_string(server.port())), HasSubstr("another process uses it"),
                    HasSubstr("choose another port")));
}

TEST(Store, NobodyThere) {
  uint16_t port = 0;
  {
    const StoreServer server(0, "run");
    port = server.port();
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(message_of([&] { StoreClient("127.0.0.1", port, "run", 300ms); }),
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(port)), HasSubstr("Connection refused"),
                    HasSubstr("firewall")));
  EXPECT_THAT(message_of([&] { StoreClient("no-such-host.invalid", 1, "run", 10ms); }),
              HasSubstr("'no-such-host.invalid' cannot be resolved"));
  // Documentation addresses (RFC 5737): nothing answers, or a router says so.
  EXPECT_THAT(message_of([&] { StoreClient("192.0.2.1", 1, "run", 300ms); }), HasSubstr("192.0.2.1:1"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
}

TEST(Store, TheServerGoesWhileClientsWait) {
  auto server = std::make_unique<StoreServer>(0, "run");
  StoreClient client("localhost", server->port(), "run", 500ms);
  client.set("key", "value");
  std::string message;
  std::thread waiting([&] { message = message_of([&] { client.get("never", 60s); }); });
  std::this_thread::sleep_for(100ms);
  const uint16_t port = server->port();
  server.reset();
  waiting.join();
  EXPECT_THAT(message, AllOf(HasSubstr("get 'never'"), HasSubstr("closed"), HasSubstr("still run?")));
  EXPECT_THAT(message_of([&] { client.try_get("key"); }), HasSubstr("cannot connect"));
  // A server that is back, without its values, is found again.
  server = std::make_unique<StoreServer>(port, "run");
  EXPECT_EQ(client.try_get("key"), std::nullopt);
}

TEST(Store, AServerThatDoesNotAnswer) {
  const Socket silent = listen_on(0);
  EXPECT_THAT(message_of([&] { StoreClient("127.0.0.1", port_of(silent.get()), "run", 200ms); }),
              AllOf(HasSubstr("greeting"), HasSubstr("no answer within 0.2 s")));
}

// What a stranger sends, byte by byte, and what it gets.
class Stranger {
 public:
  explicit Stranger(uint16_t port) : socket_(connect_to("127.0.0.1", port, deadline_after(5s))) {}
  void send(const std::string& bytes, std::chrono::microseconds pause = 0us) {
    for (const char c : bytes) {
      if (send_all(socket_.get(), &c, 1, deadline_after(5s)) != Transfer::done) return;
      if (pause > 0us) std::this_thread::sleep_for(pause);
    }
  }
  // All that comes until the server closes the connection.
  std::string rest() {
    std::string all;
    char c = 0;
    Transfer transfer = Transfer::done;
    while ((transfer = receive_all(socket_.get(), &c, 1, deadline_after(10s))) == Transfer::done) all += c;
    EXPECT_EQ(transfer, Transfer::closed) << "the connection stays open";
    return all;
  }
  std::string receive(size_t bytes) {
    std::string got(bytes, '\0');
    EXPECT_EQ(receive_all(socket_.get(), got.data(), bytes, deadline_after(10s)), Transfer::done);
    return got;
  }

 private:
  Socket socket_;
};

std::string greeting(const std::string& run_id, uint32_t version = store_protocol::kVersion) {
  Writer writer;
  writer.raw(store_protocol::kMagic);
  writer.u32(version);
  writer.string(run_id);
  return writer.bytes();
}

std::string set_request(const std::string& key, const std::string& value) {
  Writer writer;
  writer.byte(static_cast<uint8_t>(Operation::set));
  writer.string(key);
  writer.string(value);
  return writer.message();
}

const std::string kDone("\1\0\0\0\0", 5);  // the reply to what went well

TEST(Store, TakesFramesByteByByte) {
  const StoreServer server(0, "run");
  Stranger slow(server.port());
  slow.send(greeting("run") + set_request("key", "value"), 500us);
  EXPECT_EQ(slow.receive(kDone.size()), kDone);
  EXPECT_EQ(slow.receive(kDone.size()), kDone);
  // Two requests at once, and the half of a third, which must not hold up anybody.
  slow.send(set_request("a", "1") + set_request("b", "2") + set_request("c", "3").substr(0, 9));
  EXPECT_EQ(slow.receive(2 * kDone.size()), kDone + kDone);
  StoreClient client("localhost", server.port(), "run", 5s);
  EXPECT_THAT(client.keys(""), ElementsAre("a", "b", "key"));
}

TEST(Store, StrangersAreToldWhyAndDisconnected) {
  const StoreServer server(0, "run", 300ms);
  StoreClient client("localhost", server.port(), "run", 5s);
  const std::string length_only("\xff\xff\xff\xff", 4), nothing("\0\0\0\0", 4);
  Writer unknown, short_key, trailing;
  unknown.byte(99);
  unknown.string("key");
  short_key.byte(static_cast<uint8_t>(Operation::get));
  short_key.u32(1000);
  trailing.byte(static_cast<uint8_t>(Operation::remove));
  trailing.string("key");
  trailing.byte(0);
  Writer long_id;
  long_id.raw(store_protocol::kMagic);
  long_id.u32(store_protocol::kVersion);
  long_id.u32(1 << 30);
  const std::vector<std::pair<std::string, std::string>> cases{
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no greeting"},
      {std::string(100000, '\xaa'), "no greeting"},
      {greeting("run", 7), "version 7"},
      {greeting("other"), "'other'"},
      {long_id.bytes(), "too long"},
      {greeting("run").substr(0, 11), "within 0.3 s"},
      {"", "within 0.3 s"},
      {greeting("run") + length_only, "4294967295 bytes"},
      {greeting("run") + nothing, "malformed"},
      {greeting("run") + unknown.message(), "malformed"},
      {greeting("run") + short_key.message(), "malformed"},
      {greeting("run") + trailing.message(), "malformed"},
  };
  for (const auto& [sent, reason] : cases) {
    Stranger stranger(server.port());
    stranger.send(sent.substr(0, 200));
    EXPECT_THAT(stranger.rest(), HasSubstr(reason));
    EXPECT_EQ(client.add("alive", 0), 0);
  }
}

TEST(Store, AFloodOfStrangersHarmsNobody) {
  const StoreServer server(0, "run", 200ms);
  StoreClient client("localhost", server.port(), "run", 5s);
  std::vector<std::unique_ptr<Stranger>> strangers;
  for (int i = 0; i < 100; ++i) {
    strangers.push_back(std::make_unique<Stranger>(server.port()));
    if (i % 3 == 1) strangers.back()->send("x");
    if (i % 3 == 2) strangers.back()->send(greeting("run") + "\xff\xff");
    EXPECT_EQ(client.add("count", 1), i + 1);
  }
  strangers.clear();
  EXPECT_EQ(client.add("count", 1), 101);
}

TEST(Store, WrongUseIsAnError) {
  EXPECT_EQ(error_of([] { StoreServer(0, ""); }).code(), ExitCode::bad_usage);
  EXPECT_EQ(error_of([] { StoreServer(0, std::string(2000, 'x')); }).code(), ExitCode::bad_usage);
  const StoreServer server(0, "run");
  StoreClient client("localhost", server.port(), "run", 5s);
  EXPECT_THAT(message_of([&] { client.set("big", std::string(17 << 20, 'x')); }), HasSubstr("at most"));
  client.set("still", "works");
}

}  // namespace
}  // namespace polar::test
