// Tokenizers of Hugging Face's tokenizer.json with byte-level BPE: GPT-2, Qwen 2 to 3, Llama 3.
#pragma once

#include <filesystem>
#include <memory>

#include "data/tokenizer.h"

namespace polar {

// The ids are those of Hugging Face's tokenizers, with one intended difference: the spelling of an added
// token
// ("<|endoftext|>", "<tool_call>") in a text is text, so that no document can forge a border. Documents end
// with <|endoftext|> if the vocabulary has it, else with the eos_token of the tokenizer_config.json beside
// the file. Errors (exit code 2): not JSON, not byte-level BPE, or an option of that format that is not
// supported (named).
std::shared_ptr<const Tokenizer> load_bpe(const std::filesystem::path& path);

}  // namespace polar
