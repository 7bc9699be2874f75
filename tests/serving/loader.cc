// Loads a SavedModel with the loader that TF Serving uses, XLA switched off as in the server, and answers requests.
//
//   loader MODEL REQUESTS REPLIES [LIBRARY...]
//
// The libraries hold ops that the server links besides TensorFlow's: TF Text's.
// Both files are TFRecords of NamedTensorProto. A request is a record named "signature" (a string), a record per
// input, and an empty record. A reply is a record per output, or one named "error", and an empty record.

#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/compiler/jit/flags.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/lib/io/record_writer.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/protobuf/named_tensor.pb.h"
#include "tensorflow/core/public/session.h"

using tensorflow::NamedTensorProto;
using tensorflow::Tensor;
using Named = std::map<std::string, Tensor>;

static void Check(const absl::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::exit(1);
  }
}

static bool Read(tensorflow::io::SequentialRecordReader* reader, Named* request) {
  tensorflow::tstring record;
  request->clear();
  while (reader->ReadRecord(&record).ok()) {
    if (record.empty()) return true;
    NamedTensorProto named;
    Tensor tensor;
    if (!named.ParseFromString(std::string(record)) || !tensor.FromProto(named.tensor())) std::exit(2);
    (*request)[named.name()] = tensor;
  }
  return false;
}

static void Write(tensorflow::io::RecordWriter* writer, const std::string& name, const Tensor& tensor) {
  NamedTensorProto named;
  named.set_name(name);
  tensor.AsProtoField(named.mutable_tensor());
  Check(writer->WriteRecord(named.SerializeAsString()));
}

static absl::Status Answer(const tensorflow::SavedModelBundle& bundle, Named request, Named* reply) {
  std::string name(request["signature"].scalar<tensorflow::tstring>()());
  request.erase("signature");
  auto found = bundle.GetSignatures().find(name);
  if (found == bundle.GetSignatures().end()) return absl::NotFoundError("no signature " + name);
  std::vector<std::pair<std::string, Tensor>> inputs;
  for (const auto& [key, tensor] : request) inputs.emplace_back(found->second.inputs().at(key).name(), tensor);
  std::vector<std::string> keys, fetches;
  for (const auto& [key, info] : found->second.outputs()) {
    keys.push_back(key);
    fetches.push_back(info.name());
  }
  std::vector<Tensor> outputs;
  absl::Status status = bundle.GetSession()->Run(inputs, fetches, {}, &outputs);
  for (size_t i = 0; i < outputs.size(); ++i) (*reply)[keys[i]] = outputs[i];
  return status;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  tensorflow::DisableXlaCompilation();
  for (int i = 4; i < argc; ++i) {
    if (dlopen(argv[i], RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
  }
  tensorflow::SavedModelBundle bundle;
  Check(tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle));
  std::unique_ptr<tensorflow::RandomAccessFile> requests;
  std::unique_ptr<tensorflow::WritableFile> replies;
  Check(tensorflow::Env::Default()->NewRandomAccessFile(argv[2], &requests));
  Check(tensorflow::Env::Default()->NewWritableFile(argv[3], &replies));
  tensorflow::io::SequentialRecordReader reader(requests.get());
  tensorflow::io::RecordWriter writer(replies.get());
  Named request;
  while (Read(&reader, &request)) {
    Named reply;
    absl::Status status = Answer(bundle, request, &reply);
    if (!status.ok()) {
      Tensor error(tensorflow::DT_STRING, {});
      error.scalar<tensorflow::tstring>()() = std::string(status.message());
      reply = {{"error", error}};
    }
    for (const auto& [name, tensor] : reply) Write(&writer, name, tensor);
    Check(writer.WriteRecord(""));
  }
  Check(writer.Close());
  Check(replies->Close());
  return 0;
}
