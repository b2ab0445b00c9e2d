#!/usr/bin/env Rscript
# Writes the novels of this folder from the R package janeaustenr (Debian: r-cran-janeaustenr).
#
# Usage: Rscript data/austen/extract.R [folder]
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

arguments <- commandArgs(trailingOnly = TRUE)
folder <- if (length(arguments) > 0) arguments[1] else "data/austen"
write_novel("pride_and_prejudice", prideprejudice, folder)
write_novel("northanger_abbey", northangerabbey, folder)
