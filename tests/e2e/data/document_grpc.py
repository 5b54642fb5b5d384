import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
# Service endpoint: omit "http://" and append ":80".
# Find the endpoint on the EAS page under Invocation Information.
host = '<host>'
# Service token. Find it on the Shared Gateway - Internet Endpoint tab.
token = '<token>'
# Model name and version.
# - Single model, scenario-based: always 'model'
# - Single model, custom deployment: the --model_name value (defaults to 'model')
# - Multi-model: the 'name' field in model_config.pbtxt
name = '<model_name>'
signature_name = 'serving_default'
# Only one version can be requested per call.
version = <version_num>
# Build the request.
req = predict_pb2.PredictRequest()
req.model_spec.name = name
req.model_spec.signature_name = signature_name
req.model_spec.version.value = version
req.inputs['keras_tensor'].CopyFrom(tf.make_tensor_proto([[[[1.0]] * 28] * 28]))
# Send the request.
channel = grpc.insecure_channel(host)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
metadata = (('authorization', token),)
response, _ = stub.Predict.with_call(req, metadata=metadata)
print(response)
