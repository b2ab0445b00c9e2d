// Grids: how they are read, named and multiplied.
#include "sweep/grid.h"

#include <gmock/gmock.h>

#include <set>

#include "base/error.h"

namespace polar::sweep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::vector<std::string>& grids) {
  try {
    parse_grids(grids);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_usage);
    return e.what();
  }
  return "";
}

TEST(Grid, ValuesAreCutAtCommasOutsideBracketsAndQuotes) {
  EXPECT_THAT(split_values("1e-3,2e-3"), ElementsAre("1e-3", "2e-3"));
  EXPECT_THAT(split_values("[0.9,0.95], [0.8,0.95]"), ElementsAre("[0.9,0.95]", "[0.8,0.95]"));
  EXPECT_THAT(split_values("{kind: rms_match, factor: 2},{kind: none}"),
              ElementsAre("{kind: rms_match, factor: 2}", "{kind: none}"));
  EXPECT_THAT(split_values(R"("a,]b",'c,"d')"), ElementsAre(R"("a,]b")", R"('c,"d')"));
  EXPECT_THAT(split_values("[[1,2],[3,4]],[]"), ElementsAre("[[1,2],[3,4]]", "[]"));
}

TEST(Grid, BrokenOnesAreNamed) {
  EXPECT_THAT(error_of({"optimizer.groups.0.lr"}), HasSubstr("found no '='"));
  EXPECT_THAT(error_of({"=1"}), HasSubstr("empty key"));
  EXPECT_THAT(error_of({"a+=1"}), HasSubstr("empty key"));
  EXPECT_THAT(error_of({"a="}), HasSubstr("a value is empty"));
  EXPECT_THAT(error_of({"a=1,,2"}), HasSubstr("a value is empty"));
  EXPECT_THAT(error_of({"a=1,2,1"}), HasSubstr("the value 1 stands there twice"));
  EXPECT_THAT(error_of({"a=[1,2"}), HasSubstr("a ']' is missing"));
  EXPECT_THAT(error_of({"a='1,2"}), HasSubstr("a ''' is missing"));
  EXPECT_THAT(error_of({"a=1", "b+a=2"}), HasSubstr("the key a stands in a grid already"));
  EXPECT_THAT(error_of({"run.seed=1,2"}), HasSubstr("the sweep itself sets run.seed"));
  EXPECT_THAT(error_of({"a+run.dir=1,2"}), HasSubstr("the sweep itself sets run.dir"));
}

std::vector<std::string> names(const std::vector<std::string>& grids) {
  std::vector<std::string> result;
  for (const Grid& grid : parse_grids(grids)) result.push_back(grid.name);
  return result;
}

TEST(Grid, IsNamedByAsMuchOfItsKeyAsTellsItApart) {
  EXPECT_THAT(names({"optimizer.groups.0.lr=1", "model.init=2"}), ElementsAre("lr", "init"));
  EXPECT_THAT(names({"optimizer.groups.0.lr=1", "optimizer.groups.1.lr=2"}), ElementsAre("0.lr", "1.lr"));
  EXPECT_THAT(names({"optimizer.groups.0.lr+optimizer.groups.1.lr=1"}), ElementsAre("lr"));
  EXPECT_THAT(names({"a.x+b.y=1"}), ElementsAre("x+y"));
}

TEST(Grid, TheProductChangesTheLastGridFastest) {
  const std::vector<Point> points =
      product(parse_grids({"o.lr+p.lr=1e-3,2e-3", "o.betas=[0.9,0.95],[0.8,0.9]"}));
  ASSERT_EQ(points.size(), 4u);
  EXPECT_EQ(points[1].name, "lr=1e-3,betas=[0.8,0.9]");
  EXPECT_THAT(points[1].choice, ElementsAre(0, 1));
  EXPECT_THAT(points[2].overrides, ElementsAre("o.lr=2e-3", "p.lr=2e-3", "o.betas=[0.9,0.95]"));
}

TEST(Grid, WithoutOneThereIsOnePoint) {
  const std::vector<Point> points = product({});
  ASSERT_EQ(points.size(), 1u);
  EXPECT_EQ(points[0].name, "base");
  EXPECT_TRUE(points[0].overrides.empty());
}

// No '/' leaves the directory, nothing hides, and no two texts meet.
TEST(Grid, NamesOfPointsAreSafeAndDifferent) {
  const std::string longest(300, 'x'), as_long = std::string(299, 'x') + "y";
  const std::vector<Point> points =
      product(parse_grids({"a.path=../up,..-up,%2E,., a b ,a%20b," + longest + "," + as_long}));
  std::set<std::string> seen;
  for (const Point& point : points) {
    EXPECT_TRUE(seen.insert(point.name).second) << point.name;
    EXPECT_EQ(point.name.find('/'), std::string::npos);
    EXPECT_LT(point.name.size(), 200u);
    EXPECT_TRUE(point.name.starts_with("path="));
  }
}

TEST(Grid, NumbersAreKnownAsSuch) {
  EXPECT_THAT(*as_numbers({"1e-3", "0.5", "-2"}), ElementsAre(1e-3, 0.5, -2.0));
  EXPECT_FALSE(as_numbers({"1", "two"}));
  EXPECT_FALSE(as_numbers({"1", "inf"}));
  EXPECT_FALSE(as_numbers({"[1,2]"}));
}

}  // namespace
}  // namespace polar::sweep
