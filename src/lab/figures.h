// The figures of an experiment: a panel a quantity, a curve a setting (the median over the seeds, with a band
// from the least to the most) against the steps, both axes logarithmic.
#pragma once

#include <filesystem>
#include <string>

#include "lab/experiment.h"

namespace polar::lab {

// Colour and dash pattern (1, 2, ... as gnuplot counts them) of the setting with this index: the same in the
// picture and on the page. No two of the first 24 are the same.
struct Style {
  std::string color;  // "#rrggbb"
  int dashes;
};
Style style_of(size_t index);

// The gnuplot program of all panels with their legend, under which stands by what the problems were drawn, as
// a PNG, and of one panel as an SVG.
std::string picture_program(const Experiment& experiment, const std::filesystem::path& png);
std::string panel_program(const Experiment& experiment, size_t quantity, const std::filesystem::path& svg);

// Draws all panels into `png`. Errors: Error that says what gnuplot said, or that it is not installed.
void draw_picture(const Experiment& experiment, const std::filesystem::path& png);

// One HTML page that needs no network: the panels as SVG inside it (drawn by gnuplot; without it a note says
// so), the settings, the table.
std::string render_page(const Experiment& experiment);

}  // namespace polar::lab
