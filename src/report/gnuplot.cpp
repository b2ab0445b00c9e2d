#include "report/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"

extern char** environ;

namespace polar {
namespace {

namespace fs = std::filesystem;

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using TemporaryFile = std::unique_ptr<std::FILE, Close>;  // has no name, vanishes when closed

TemporaryFile make_temporary() {
  TemporaryFile file(std::tmpfile());
  if (!file) fail("cannot make a temporary file: {}", std::strerror(errno));
  return file;
}

std::string content_of(std::FILE* file) {
  std::string content;
  std::array<char, 4096> part{};
  std::rewind(file);
  for (size_t n = 0; (n = std::fread(part.data(), 1, part.size(), file)) > 0;) content.append(part.data(), n);
  return content;
}

// Starts gnuplot with the program as its input, no shell between; returns its exit status.
int run_gnuplot(std::FILE* program, std::FILE* messages) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(program), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(messages), STDERR_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = "gnuplot";
  std::array<char*, 2> arguments{name.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) fail("gnuplot is not installed (Debian: apt-get install gnuplot-nox)");
  if (error != 0) fail("cannot start gnuplot: {}", std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("cannot wait for gnuplot: {}", std::strerror(errno));
  return status;
}

}  // namespace

// Only the quote itself is special there; a line break would end the string.
std::string gnuplot_quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) continue;
    result += c;
    if (c == '\'') result += c;
  }
  return result + "'";
}

std::string gnuplot_png_terminal(int width, int height) {
  return fmt::format(R"(if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {{
  set terminal pngcairo noenhanced size {0},{1} background rgb 'white' font 'sans,12'
}} else {{
  set terminal png noenhanced size {0},{1} background rgb 'white'
}}
)",
                     width, height);
}

void draw_with_gnuplot(const fs::path& picture, const std::function<std::string(const fs::path&)>& program) {
  fs::path unfinished = picture;
  unfinished += ".tmp";
  const std::string text = program(unfinished);
  const TemporaryFile input = make_temporary(), messages = make_temporary();
  if (std::fwrite(text.data(), 1, text.size(), input.get()) != text.size() || std::fflush(input.get()))
    fail("cannot write a temporary file: {}", std::strerror(errno));
  std::rewind(input.get());
  const int status = run_gnuplot(input.get(), messages.get());
  std::error_code error;
  if (status != 0 || fs::file_size(unfinished, error) == 0 || error) {
    fs::remove(unfinished, error);
    fail("gnuplot could not draw {}: {}", picture.string(), content_of(messages.get()));
  }
  rename_durably(unfinished, picture);
}

}  // namespace polar
