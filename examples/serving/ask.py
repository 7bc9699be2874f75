"""Asks a running TF Serving for pronunciations and dates: `python ask.py [http://localhost:8501 | localhost:8500]`."""

import argparse

from keras_attn import serving


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", default="http://localhost:8501", help="host:port of gRPC, or a URL")
    address = parser.parse_args().address
    asked = {"pronounce": ["attention", "transformer"], "dates": ["jeudi 12 mars 1987", "July 4, 1876"]}
    for model, texts in asked.items():
        try:
            with serving.Client(address, model) as client:
                answer = client.predict(texts)
        except serving.ServingError as error:
            raise SystemExit(f"{model}: {error}") from error
        for text, target, score in zip(texts, answer["target"], answer["score"], strict=True):
            print(f"{text:>20}  ->  {target}  (log probability {score:.2f})")


if __name__ == "__main__":
    main()
