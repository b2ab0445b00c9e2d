// The matrix rate of cards: data sheets where a name is known, else the card's properties.
#include "backend/cuda/peak.h"

#include <gtest/gtest.h>

namespace polar::cuda {
namespace {

double tera(const CardProperties& card, DType compute = DType::bf16) {
  return 1e-12 * peak_of_card(card, compute).flops;
}

TEST(CardPeak, ComesFromTheDataSheetOfAKnownName) {
  EXPECT_NEAR(tera({"NVIDIA H100 80GB HBM3", 9, 0, 132, 1.98e9}), 989.4, 1e-9);
  EXPECT_NEAR(tera({"NVIDIA H100 PCIe", 9, 0, 114, 1.755e9}), 756.4, 1e-9);
  EXPECT_NEAR(tera({"NVIDIA H200", 9, 0, 132, 1.98e9}), 989.4, 1e-9);
  EXPECT_NEAR(tera({"NVIDIA A100-SXM4-80GB", 8, 0, 108, 1.41e9}), 312.0, 1e-9);
  EXPECT_NEAR(tera({"NVIDIA L40S", 8, 9, 142, 2.52e9}), 362.1, 1e-9);
  EXPECT_NEAR(tera({"NVIDIA L4", 8, 9, 58, 2.04e9}), 121.0, 1e-9);
  EXPECT_EQ(peak_of_card({"NVIDIA L4", 8, 9, 58, 2.04e9}, DType::bf16).source, "data sheet of L4");
}

TEST(CardPeak, IsDerivedFromThePropertiesOfOthers) {
  const CardProperties geforce{"NVIDIA GeForce RTX 4090", 8, 9, 128, 2.52e9};
  EXPECT_NEAR(tera(geforce), 165.2, 0.1);  // as its data sheet says
  EXPECT_EQ(peak_of_card(geforce, DType::bf16).source, "128 SMs x 2.52 GHz x 512 FLOPs a clock");
  EXPECT_NEAR(tera({"NVIDIA GeForce RTX 5090", 12, 0, 170, 2.407e9}), 209.5, 0.1);
  EXPECT_NEAR(tera({"Hopper that nobody knows", 9, 0, 100, 1e9}), 409.6, 1e-9);
  // FP32 has no tensor cores here, and no data sheet of bf16.
  EXPECT_NEAR(tera({"NVIDIA A100-SXM4-80GB", 8, 0, 108, 1.41e9}, DType::f32), 19.5, 0.05);
}

TEST(CardPeak, IsUnknownForWhatCameLater) {
  EXPECT_EQ(tera({"NVIDIA Later 1", 13, 0, 200, 2e9}), 0.0);
  EXPECT_EQ(tera({"NVIDIA GeForce RTX 4090", 8, 9, 128, 2.52e9}, DType::f64), 0.0);
}

}  // namespace
}  // namespace polar::cuda
