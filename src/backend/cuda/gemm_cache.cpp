#include "backend/cuda/gemm_cache.h"

#include <filesystem>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace polar::cuda {
namespace {

constexpr const char* kTitle = "polartrain gemm choices 2";

std::string text_of(const GemmProblem& p, const GemmAlgorithm& algorithm) {
  std::string line =
      fmt::format("{} {} {:d} {:d} {:d} {} {} {} {} {} {} {} {} {}", static_cast<int>(p.inputs),
                  static_cast<int>(p.output), p.transpose_a, p.transpose_b, p.bias, p.rows, p.cols, p.depth,
                  p.a_stride, p.b_stride, p.c_stride, p.a_alignment, p.b_alignment, p.c_alignment);
  for (const uint64_t word : algorithm) line += fmt::format(" {:x}", word);
  return line + " .";  // a line that was cut off is no line
}

bool parse(const std::string& line, GemmProblem& p, GemmAlgorithm& algorithm) {
  std::istringstream in(line);
  int inputs = 0, output = 0;
  in >> inputs >> output >> p.transpose_a >> p.transpose_b >> p.bias >> p.rows >> p.cols >> p.depth >>
      p.a_stride >> p.b_stride >> p.c_stride >> p.a_alignment >> p.b_alignment >> p.c_alignment;
  p.inputs = static_cast<DType>(inputs);
  p.output = static_cast<DType>(output);
  for (uint64_t& word : algorithm) in >> std::hex >> word;
  std::string end;
  in >> end;
  return end == ".";
}

}  // namespace

GemmCache::GemmCache(std::string path, std::string owner) : path_(std::move(path)), owner_(std::move(owner)) {
  if (path_.empty() || !std::filesystem::exists(path_)) return;
  std::istringstream file(read_file(path_));
  std::string line;
  if (!std::getline(file, line) || line != kTitle || !std::getline(file, line) || line != owner_) {
    log::info("{} is not of {}: GEMM algorithms are chosen anew", path_, owner_);
    return;
  }
  while (std::getline(file, line)) {
    GemmProblem problem;
    GemmAlgorithm algorithm;
    if (parse(line, problem, algorithm)) choices_[problem] = algorithm;
  }
}

const GemmAlgorithm* GemmCache::find(const GemmProblem& problem) const {
  const auto found = choices_.find(problem);
  return found == choices_.end() ? nullptr : &found->second;
}

void GemmCache::insert(const GemmProblem& problem, const GemmAlgorithm& algorithm) {
  choices_[problem] = algorithm;
  if (keeps()) write();
}

void GemmCache::write() {
  std::string text = fmt::format("{}\n{}\n", kTitle, owner_);
  for (const auto& [problem, algorithm] : choices_) text += text_of(problem, algorithm) + "\n";
  try {
    write_file_atomically(path_, text);
  } catch (const Error& error) {
    log::warning("choices of GEMM algorithms are not kept: {}", error.what());
    path_.clear();
  }
}

}  // namespace polar::cuda
