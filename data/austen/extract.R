#!/usr/bin/env Rscript
# Writes the novels of this folder from the R package janeaustenr (Debian: r-cran-janeaustenr).
#
# Usage: Rscript data/austen/extract.R [folder [all]]
#
# The package holds each novel as the lines of its Project Gutenberg edition. A paragraph's lines are joined into
# one, paragraphs are separated by a blank line, runs of spaces become one space; title pages and notes
# on the edition are left out. Nothing else is changed.

suppressPackageStartupMessages(library(janeaustenr))

join_paragraphs <- function(lines) {
  lines <- gsub("\\s+", " ", trimws(lines))
  blank <- lines == ""
  paragraph <- cumsum(blank)[!blank]
  unname(vapply(split(lines[!blank], paragraph), paste, "", collapse = " "))
}

# The text from the first chapter's heading to the end, less a closing note on the edition.
body_of <- function(lines) {
  first <- grep("^chapter (1|i)$", lines, ignore.case = TRUE)[1]
  note <- grep("^A NOTE ON THE TEXT$", lines)
  last <- if (length(note) > 0) note[1] - 1 else length(lines)
  lines[first:last]
}

write_novel <- function(title, lines, folder) {
  text <- enc2utf8(join_paragraphs(body_of(lines)))
  path <- file.path(folder, paste0(title, ".txt"))
  connection <- file(path, open = "wb")
  writeLines(paste(c(title_line(title), text), collapse = "\n\n"), connection, useBytes = TRUE)
  close(connection)
  cat(path, file.size(path), "bytes\n")
}

title_line <- function(title) toupper(gsub("_", " ", title))

# The demo has two of the novels; "all" writes the six (4 MB), for configs/learning.
novels <- list(pride_and_prejudice = prideprejudice, northanger_abbey = northangerabbey)
others <- list(sense_and_sensibility = sensesensibility, mansfield_park = mansfieldpark, emma = emma,
               persuasion = persuasion)

arguments <- commandArgs(trailingOnly = TRUE)
folder <- if (length(arguments) > 0) arguments[1] else "data/austen"
if (length(arguments) > 1 && arguments[2] == "all") novels <- c(novels, others)
dir.create(folder, showWarnings = FALSE, recursive = TRUE)
for (title in names(novels)) write_novel(title, novels[[title]], folder)
