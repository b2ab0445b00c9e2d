// Pictures by gnuplot, in a process of its own, no shell between.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace polar {

// A string in gnuplot's single quotes; control characters are left out.
std::string gnuplot_quoted(const std::string& text);

// `set terminal ...` for a PNG of this many pixels, text as it stands.
std::string gnuplot_png_terminal(int width, int height);

// Runs the program that `program(output)` returns and that draws into `output`: another name, which becomes
// `picture` when it is whole. Errors: Error that says what gnuplot said, or that it is not installed.
void draw_with_gnuplot(const std::filesystem::path& picture,
                       const std::function<std::string(const std::filesystem::path& output)>& program);

}  // namespace polar
