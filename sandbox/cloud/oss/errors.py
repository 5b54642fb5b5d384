"""OSS errors: codes and HTTP statuses as documented under "Error codes" of the OSS API reference."""

from __future__ import annotations

from sandbox.cloud.errors import ApiError


class OssError(ApiError):
    """An OSS error answer.

    Attributes:
        details: further elements of the ``<Error>`` document (``BucketName``, ``Key`` ...).
    """

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(status, code, message)
        self.details = details


def no_such_bucket(bucket: str) -> OssError:
    return OssError(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=bucket)


def no_such_key(key: str) -> OssError:
    return OssError(404, "NoSuchKey", "The specified key does not exist.", Key=key)


def no_such_upload(upload_id: str) -> OssError:
    message = "The specified upload does not exist. It may have been aborted or completed."
    return OssError(404, "NoSuchUpload", message, UploadId=upload_id)


def invalid_argument(name: str, value: str, message: str) -> OssError:
    return OssError(400, "InvalidArgument", message, ArgumentName=name, ArgumentValue=value)


def malformed_xml() -> OssError:
    return OssError(400, "MalformedXML", "The XML you provided was not well-formed or did not match the schema.")


def access_denied(message: str) -> OssError:
    return OssError(403, "AccessDenied", message)
